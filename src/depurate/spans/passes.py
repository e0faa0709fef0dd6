"""Forward passes that stop at a layer and go on from there, so that a whole walk costs one pass a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import torch
from greenlet import greenlet
from torch import Tensor, nn

from depurate.spans.calls import shown
from depurate.spans.modes import Modes, kept_modes
from depurate.spans.sites import Site, run_to

# Bytes that stopped passes may hold; beyond it a batch is run again from its start.
_HELD = 1 << 29
# Where not all batches can be held at a layer, so many images at least are taken there.
_FEWEST = 128


class Passes:
    """The passes of several batches through one network, each held where it last stopped.

    Layers may be asked for in any order; only the order of the network is free of repeated work. What a layer
    before the stop is changed to afterwards does not reach a held batch, so layers are to be changed in forward
    order, while the passes stand before them. Use it as a context manager: hooks are removed at its end.

    Args:
        model: The network, in evaluation mode.
        sites: Layers at which passes may stop.
        batches: Inputs, each of shape (n, c, h, w).
            A tensor that is there twice passes once.
        held: Bytes to hold at most, counting what the network itself keeps in a stopped pass.

    Example:
        >>> from depurate.spans import find_sites
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)).eval()
        >>> sites = find_sites(net, torch.zeros(1, 2))
        >>> with Passes(net, sites, [torch.zeros(4, 2)]) as passes:
        ...     for site in sites:
        ...         print([tuple(inputs[0].shape) for inputs in passes.inputs(site)])
        [(4, 2)]
        [(4, 2)]
    """

    def __init__(
        self, model: nn.Module, sites: Sequence[Site], batches: Sequence[Tensor], held: int = _HELD
    ) -> None:
        self.batches = batches
        self._model = model
        self._held = held
        first = {id(batch): place for place, batch in reversed(list(enumerate(batches)))}
        self._pass_of = [first[id(batch)] for batch in batches]
        self._runners: list[_Runner | None] = [None] * len(batches)
        self._handles = [
            model.get_submodule(site.name).register_forward_pre_hook(_stop_at(site.name), with_kwargs=True)
            for site in sites
        ]

    def __enter__(self) -> Passes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        for place in range(len(self.batches)):
            self._drop(place)

    def places(self, site: Site) -> range:
        """Which batches to look at in a layer: all, or evenly spread ones where all cannot be held there.

        Early layers of large pictures hold the most and need the fewest: each picture has thousands of patches there.
        The batches left out start when a later layer asks for them, with the layers before it as they are then. Every
        second, fourth or eighth batch is taken: what an earlier layer took, a later one takes too and passes on.
        """
        count = len(self.batches)
        if site.calls > 1 or count < 2:
            return range(count)
        self._held_inputs(site, 0)
        stopped = self._runners[0]
        wanted = 0 if stopped is None else stopped.size * count
        most = max(1, sum(len(batch) for batch in self.batches) // _FEWEST)
        every = 1
        while 2 * every <= most and wanted > every * self._held:
            every *= 2
        return range(0, count, every)

    def inputs(self, site: Site, places: Sequence[int] | None = None) -> Iterator[list[Tensor]]:
        """Yield what each batch in turn brings to a layer, one tensor a call (none if it never gets there)."""
        for place in range(len(self.batches)) if places is None else places:
            if site.calls > 1:
                yield self._collected(site, self.batches[place])
            else:
                yield self._held_inputs(site, self._pass_of[place])

    def _collected(self, site: Site, batch: Tensor) -> list[Tensor]:
        # A shared layer feeds itself: all its calls belong to one pass with its present weights.
        found: list[Tensor] = []
        run_to(self._model, site, batch, lambda inputs, _: found.append(inputs), need_output=False)
        return found

    def _held_inputs(self, site: Site, place: int) -> list[Tensor]:
        runner = self._runners[place]
        if runner is None or not runner.advance(site.name):
            # New, dropped for its size, or past this layer already: from the start.
            runner = self._runners[place] = _Runner(self._model, self.batches[place])
            if not runner.advance(site.name):
                self._runners[place] = None
                return []
        assert runner.inputs is not None
        found = [runner.inputs]
        if sum(other.size for other in self._runners if other is not None) > self._held:
            self._drop(place)
        return found

    def _drop(self, place: int) -> None:
        runner, self._runners[place] = self._runners[place], None
        if runner is not None:
            runner.stop()


class _Runner(greenlet):
    """One batch on its way through a network; it hands control back where it is to stop.

    A greenlet and not a thread: passes take turns, and each thread would start OpenMP workers of its own.
    """

    def __init__(self, model: nn.Module, batch: Tensor) -> None:
        super().__init__(self._pass)
        self._model, self._batch = model, batch
        self._wanted: str | None = None
        self._at: str | None = None
        self.inputs: Tensor | None = None
        # The network's own, where it is stopped.
        self._modes: Modes | None = None
        # Bytes that it holds where it is stopped.
        self.size = 0

    def advance(self, name: str) -> bool:
        """Go on until the layer is reached; False when the pass ended without it."""
        if self._at != name and not self.dead:
            self._wanted, self._at, self.inputs = name, None, None
            # Contexts belong around each turn: entered inside, they would leak into whoever runs in between.
            # TF32 convolutions err by 1e-3, which would fill the small directions of a span with noise.
            with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False), kept_modes():
                if self._modes is not None:
                    self._modes.set()
                self.parent = greenlet.getcurrent()
                self.switch()
                self._modes = Modes.now()
            self.size = self._bytes()
        return self._at == name

    def reached(self, name: str, inputs: Tensor) -> None:
        """Hand control back if this is where the pass is to stop."""
        if name == self._wanted:
            # In the precision of the images, whatever the network computes in there.
            self._wanted, self._at, self.inputs = None, name, inputs.to(self._batch.dtype)
            del inputs
            assert self.parent is not None
            self.parent.switch()

    def stop(self) -> None:
        """End the pass where it is."""
        self.inputs = None
        if self and not self.dead:
            with kept_modes():
                self.throw()

    def _bytes(self) -> int:
        # Not the layer's input alone: callers up the stack keep theirs, and a residual block what it will add.
        frame, found = self.gr_frame, {}
        while frame is not None:
            names = frame.f_locals
            for value in names.values():
                for tensor in value if isinstance(value, tuple | list) else (value,):
                    if isinstance(tensor, Tensor):
                        storage = tensor.untyped_storage()
                        found[storage.data_ptr()] = storage.nbytes()
            if isinstance(names, dict):  # a copy (before Python 3.13) that would keep the tensors alive
                names.clear()
            frame = frame.f_back
        found.pop(self._batch.untyped_storage().data_ptr(), None)
        return sum(found.values())

    def _pass(self) -> None:
        self._model(self._batch)
        self._at = self.inputs = None


def _stop_at(name: str) -> Any:
    def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        current = greenlet.getcurrent()
        if isinstance(current, _Runner):
            current.reached(name, shown(inputs, named))

    return hook
