from __future__ import annotations

import warnings
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from depurate.recovery.records import Agreement, Histogram, Spectrum, Trial, TriggerSearch
from depurate.report.figures import (
    MULTIPLES,
    ROWS,
    agreement,
    noise_per_layer,
    residual_histograms,
    spectra,
    trigger_sizes,
)
from depurate.report.formats import percent, shorten
from depurate.report.svg import Drawing
from report_records import backdoored, deep, held, histogram, layer, spectrum, troubled

NAN, INFINITE = float("nan"), float("inf")


def texts(drawing: Drawing) -> list[list[str]]:
    """The visible texts of each panel."""
    trees = [ElementTree.fromstring(panel.svg) for panel in drawing.panels]
    return [["".join(element.itertext()) for element in tree.iter("text")] for tree in trees]


@pytest.mark.parametrize("number", [1, 4, ROWS, 160])
def test_noise_names_its_layers_in_forward_order(number: int) -> None:
    layers = deep(number).layers
    drawing = noise_per_layer(layers)
    (shown,) = texts(drawing)
    names = [layer.name for layer in layers if layer.name in shown]
    assert [text for text in shown if text in names] == names
    assert len(names) == min(number, ROWS)
    assert (f"{ROWS} of {number} layers" in drawing.caption) == (number > ROWS)


def test_noise_keeps_the_layers_that_stand_out() -> None:
    layers = [layer(f"layer{i}", moved=0.001, off_span=0.1) for i in range(100)]
    layers[17] = replace(layers[17], moved=0.5)
    layers[42] = replace(layers[42], contaminated=1)
    layers[99] = replace(layers[99], moved=NAN)
    (shown,) = texts(noise_per_layer(layers))
    assert {"layer17", "layer42", "layer99"} <= set(shown)


def test_noise_writes_every_share_at_its_bar() -> None:
    (shown,) = texts(noise_per_layer(troubled().layers))
    for entry in troubled().layers:
        assert percent(entry.moved) in shown and percent(entry.off_span) in shown
    assert "Hatched" in noise_per_layer(troubled().layers).caption
    assert "Hatched" not in noise_per_layer(backdoored().layers).caption


def test_spectra_show_the_most_moved_layers() -> None:
    layers = backdoored().layers
    drawing = spectra(layers)
    most = sorted((x for x in layers if x.spectrum), key=lambda x: -x.moved)[:MULTIPLES]
    assert [panel.words.partition(":")[0] for panel in drawing.panels] == [x.name for x in most]
    assert f"{MULTIPLES} most moved of 9 layers" in drawing.caption


def test_spectrum_words_hold_the_numbers() -> None:
    (panel,) = spectra([layer(fan_in=4, spectrum=Spectrum((0.6, 0.4), (0.1, 0.9), (0.5, 0.5)))]).panels
    assert panel.words == (
        "conv1: the first 1 of 4 directions hold 60.0\u00a0% of the benign images' energy, 10.0\u00a0% of the "
        "suspect's update and 50.0\u00a0% of the purified update."
    )


def test_long_spectrum_counts_directions_not_bins() -> None:
    flat = Spectrum((1 / 512,) * 512, (1 / 512,) * 512, (1 / 512,) * 512, 2048)
    (panel,) = spectra([layer(fan_in=2048, spectrum=flat)]).panels
    assert "the first 1,024 of 2,048 directions hold 50.0" in panel.words


def test_spectrum_of_a_rank_below_the_fan_in_counts_the_rank() -> None:
    flat = Spectrum((1 / 395,) * 395, (1 / 395,) * 395, (1 / 395,) * 395, 790)
    (panel,) = spectra([layer(fan_in=801, rank=790, spectrum=flat)]).panels
    assert "the first 396 of 801 directions hold 50.1" in panel.words


def test_histogram_words_hold_the_numbers() -> None:
    (panel,) = residual_histograms([layer(residuals=Histogram((0.01, 0.1, 1.0), (3, 40), 1200))]).panels
    assert panel.words == "conv1: 43 entries changed, 1,200 not; the fullest bin, 0.1 to 1, holds 40."


@pytest.mark.parametrize("centre", [3.0, 0.01, 1e-7, 4e30])
def test_narrow_histogram_still_has_a_labelled_axis(centre: float) -> None:
    taken = Histogram((centre, centre * 1.001, centre * 1.002), (5, 2), 0)
    (shown,) = texts(residual_histograms([layer(residuals=taken)]))
    assert sum(text.startswith("10") and text != "10" for text in shown) >= 2


def test_spectrum_of_part_of_the_directions_counts_one_a_bin() -> None:
    part = Spectrum((0.1,) * 10, (0.1,) * 10, (0.1,) * 10)
    (panel,) = spectra([layer(fan_in=2048, rank=10, spectrum=part)]).panels
    assert "the first 5 of 2,048 directions hold 50.0" in panel.words


def test_agreement_marks_the_chosen_strength() -> None:
    drawing = agreement(backdoored().trials)
    assert "The diamond marks the strength chosen, 0.1." in drawing.caption
    assert "0.1: 97.0\u00a0% (chosen); 0.3: 93.0\u00a0%" in drawing.panels[0].words
    assert "0.1: 1.2\u00a0points (chosen)" in drawing.panels[1].words
    for shown in texts(drawing):
        assert {"0.003", "0.01", "0.03", "0.1", "0.3", "1"} <= set(shown)


def test_layers_that_used_more_than_the_strength_chosen_are_told_of() -> None:
    trials = backdoored().trials
    caption = agreement(trials, [layer(strength=0.1), layer(strength=1.0)]).caption
    assert "chosen, 0.1; layers that see fewer patches than directions use more, up to 1." in caption
    assert "chosen, 0.1." in agreement(trials, [layer(strength=0.1)]).caption


def test_each_class_shows_the_patch_it_takes_and_whether_it_was_flagged() -> None:
    drawing = trigger_sizes(TriggerSearch((0, 3, 7), (52.0, 6.5, None), (3,)))
    (shown,), (panel,) = texts(drawing), drawing.panels
    assert {"class 0", "class 3", "class 7", "52", "6.5", "—"} <= set(shown)
    assert "class 3: 6.5 pixels, flagged; class 7: — pixels" in panel.words
    assert "taken for the target of a backdoor, 3." in drawing.caption
    assert "No class is taken for a backdoor" in trigger_sizes(TriggerSearch((0,), (None,), ())).caption


def test_the_way_out_of_every_class_has_a_bar_of_its_own() -> None:
    drawing = trigger_sizes(TriggerSearch((0, 1), (52.0, 60.0), (), 5.0, "away"))
    (panel,) = drawing.panels
    assert "class 1: 60 pixels; any other: 5 pixels, flagged" in panel.words
    assert "a backdoor that sends each class to another" in drawing.caption
    clean = trigger_sizes(TriggerSearch((0, 1), (52.0, 60.0), (), 70.0))
    assert "any other: 70 pixels." in clean.panels[0].words
    assert "No class is taken for a backdoor" in clean.caption
    natural = trigger_sizes(TriggerSearch((0, 1), (12.0, 60.0), (), natural=(0,)))
    assert natural.caption.endswith("a student of its answers to benign images, is led there, too: 0.")
    by_warp = trigger_sizes(TriggerSearch((0, 1), (52.0, 60.0), (1,), None, "warp"))
    assert "by a trigger of another kind" in by_warp.caption
    assert "any other" not in by_warp.panels[0].words


def test_many_strengths_keep_the_label_of_the_chosen_one() -> None:
    trials = [Trial(0.01 * (i + 1), held(0.9), i == 16) for i in range(40)]
    shown, _ = texts(agreement(trials))
    assert "0.17" in shown and "0.18" not in shown


def test_a_distilled_trial_says_so() -> None:
    trials = [Trial(0.03, held(0.9), False, 0.3), Trial(0.03, held(0.95), True, 0.3, distilled=True)]
    shown, _ = texts(agreement(trials))
    assert sum("distilled" in text for text in shown) == 1


@pytest.mark.parametrize(
    "drawing",
    [
        noise_per_layer(()),
        trigger_sizes(None),
        spectra([layer()]),
        residual_histograms([layer()]),
        agreement(()),
    ],
)
def test_what_is_missing_is_left_out_with_its_reason(drawing: Drawing) -> None:
    assert not drawing.panels and drawing.caption.startswith("Not drawn: ")


@pytest.mark.parametrize(
    "broken",
    [
        Spectrum((), (), ()),
        Spectrum((1.0,), (NAN,), (1.0,)),
        Spectrum((0.5, 0.5), (1.0,), (1.0,)),
    ],
)
def test_unusable_spectra_are_left_out(broken: Spectrum) -> None:
    drawing = spectra([layer("bad", spectrum=broken), layer("good", fan_in=90, spectrum=spectrum(90, 0.5))])
    assert [panel.words.partition(":")[0] for panel in drawing.panels] == ["good"]


@pytest.mark.parametrize(
    "broken",
    [
        Histogram((), (), 5),
        Histogram((0.1, 1.0), (0,), 5),
        Histogram((0.0, 1.0), (2,), 5),
        Histogram((0.1, INFINITE), (2,), 5),
        Histogram((0.1, 1.0), (2, 3), 5),
    ],
)
def test_unusable_histograms_are_left_out(broken: Histogram) -> None:
    drawing = residual_histograms(
        [layer("bad", residuals=broken), layer("good", residuals=histogram(50, 0.1))]
    )
    assert [panel.words.partition(":")[0] for panel in drawing.panels] == ["good"]


@pytest.mark.parametrize(
    ("moved", "off_span", "hit", "value", "fan_in"),
    [
        (0.0, None, 0, 0.0, 0),
        (1e-300, 1e-9, 1, 1e-300, 1),
        (1e30, 1.0, 10**9, 1e30, 3),
        (NAN, NAN, 7, NAN, 2),
        (INFINITE, INFINITE, 10**9, INFINITE, 2),
        (1e-9, 0.3, 3, 1.0, 600),
    ],
)
def test_figures_bear_any_number(
    moved: float, off_span: float | None, hit: int, value: float, fan_in: int
) -> None:
    entry = layer(
        moved=moved,
        off_span=off_span,
        contaminated=hit,
        nonfinite=hit // 2,
        fan_in=fan_in,
        spectrum=Spectrum((value,), (value,), (value,)),
        residuals=Histogram((1e-300, 1e-3, 1.0), (hit, 0), 0),
    )
    trials = [Trial(value, Agreement(0, value, moved, 1.0, value), True), Trial(0.5, held(0.9), False)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for drawing in (
            noise_per_layer([entry]),
            spectra([entry]),
            residual_histograms([entry]),
            agreement(trials),
        ):
            assert drawing.caption


def test_long_names_keep_head_and_tail() -> None:
    name = "backbone.encoder.stages.11.blocks.3.attention.projection.weight_original"
    short = shorten(name, 36)
    assert len(short) == 36 and short.startswith("backbone.") and short.endswith("weight_original")
