"""Networks by name or from the user's own file; nothing is downloaded, every failure is one line."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

from depurate.checkpoints import load_architecture, load_state
from depurate.errors import InputError


def test_torchvision_by_name_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    model = load_architecture("torchvision:resnet18")
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training
    assert sum(p.numel() for p in model.parameters()) == 11_689_512


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_number_of_classes_comes_from_the_state(name: str, prefix: str) -> None:
    models = pytest.importorskip("torchvision").models
    suspect = models.get_model(name, weights=None, num_classes=7)
    state = {prefix + key: value for key, value in suspect.state_dict().items()}
    model = load_state(load_architecture(f"torchvision:{name}", state=state), state, source=name)
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(model(x), suspect.eval()(x))


def test_other_differences_are_left_to_the_loading_to_report() -> None:
    models = pytest.importorskip("torchvision").models
    suspect = models.resnet18(num_classes=10)
    suspect.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model = load_architecture("torchvision:resnet18", state=suspect.state_dict())
    with pytest.raises(
        InputError, match=r"conv1.weight: \(64, 3, 3, 3\) in the file, \(64, 3, 7, 7\) in the network"
    ):
        load_state(model, suspect.state_dict(), source="a.pt")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("torchvision:resnet19", "no such classifier; did you mean resnet18"),
        ("torchvision:fasterrcnn_resnet50_fpn", "no such classifier"),
        ("torchvision:", "no such classifier"),
        ("resnet18", "give torchvision:NAME, timm:NAME or FILE.py:FACTORY"),
        ("", "not an architecture"),
        ("a.onnx", "ONNX files are not supported yet"),
        ("a.pt2", "torch.export programs are not supported yet"),
        ("nowhere.py:make", "nowhere.py: no such file"),
        ("nowhere.py", "nowhere.py: no such file"),
        ("x" * 5000 + ".py:make", "cannot be read"),
        ("a\0b.py:make", "no such file"),
    ],
)
def test_bad_specs(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_architecture(spec)


def test_a_mismatched_torchvision_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"torchvision::nms does not exist.*matches your torch"):
        load_architecture("torchvision:resnet18")


def test_timm_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match="pip install timm"):
        load_architecture("timm:resnet18")


def test_timm_present(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_model(name: str, pretrained: bool, num_classes: int = 5) -> nn.Module:
        assert not pretrained
        return nn.Linear(2, num_classes)

    timm = types.SimpleNamespace(list_models=lambda: ["tiny"], create_model=create_model)
    monkeypatch.setitem(sys.modules, "timm", timm)
    model = load_architecture("timm:tiny", state=nn.Linear(2, 9).state_dict())
    assert isinstance(model, nn.Linear)
    assert model.out_features == 9
    for name in ("tinny", "hf-hub:someone/tiny"):
        with pytest.raises(InputError):
            load_architecture(f"timm:{name}")


SOURCE = """
import sys
from dataclasses import dataclass
from torch import nn
from neighbour import width

@dataclass
class Settings:
    width: int = width

def make(): return nn.Sequential(nn.Linear(Settings().width, 2))
def needs(classes): return nn.Linear(2, classes)
def wrong(): return 3
def leaves(): sys.exit(3)
class Net(nn.Module):
    def forward(self, x): return x
ready = nn.Linear(4, 4)
number = 5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text("width = 6")
    (tmp_path / "mine.py").write_text(SOURCE)
    return tmp_path / "mine.py"


def test_the_users_own_file(file: Path) -> None:
    path = list(sys.path)
    made = load_architecture(f"{file}:make")
    assert isinstance(made, nn.Sequential)
    assert made[0].in_features == 6
    assert type(load_architecture(f"{file}:Net")).__name__ == "Net"
    assert isinstance(load_architecture(f"{file}:ready"), nn.Linear)
    assert sys.path == path
    sys.modules.pop("neighbour")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "has no 'absent'; it defines Settings, make, needs, wrong, leaves and 2 more"),
        ("", "say what in it makes the network, as in mine.py:NAME; it defines Settings"),
        ("needs", r"calling needs\(\) without arguments failed \(TypeError: .*classes"),
        ("wrong", r"wrong\(\) returned a int, not an nn.Module"),
        ("leaves", r"calling leaves\(\) without arguments failed \(SystemExit: 3"),
        ("number", "number is a int, not callable"),
    ],
)
def test_faults_in_the_users_own_file(file: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_architecture(f"{file}:{name}")
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def make(:", "SyntaxError"),
        ("import a_package_that_is_not_there", "ModuleNotFoundError"),
        ("raise ValueError('two\\nlines')", r"running it failed \(ValueError: two"),
        ("import sys; sys.exit('usage')", "SystemExit: usage"),
        ("\0", "running it failed"),
    ],
)
def test_files_that_do_not_run(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_architecture(f"{tmp_path / 'mine.py'}:make")
    assert "\n" not in str(caught.value)


def test_remarks_on_initial_weights_are_not_passed_on(recwarn: pytest.WarningsRecorder) -> None:
    pytest.importorskip("torchvision")
    load_architecture("torchvision:googlenet")
    assert not [caught for caught in recwarn if caught.category is FutureWarning]
