"""The paper's experiments from scratch: seeded runs with a record each, figures and a page that explains them."""

from depurate.reproduce.run import EXPERIMENTS, Settings, reproduce
from depurate.reproduce.study import Picture, Record, Study, Table

__all__ = ["EXPERIMENTS", "Picture", "Record", "Settings", "Study", "Table", "reproduce"]
