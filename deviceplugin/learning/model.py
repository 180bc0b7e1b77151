"""A model as a file that people can read, and that says how good it was; pure."""

import msgspec
from msgspec import Struct

from deviceplugin.files.text import one_line
from deviceplugin.learning.expected import MEANS, Weight
from deviceplugin.learning.figures import Figures
from deviceplugin.learning.predict import FEATURES, Learned, Prediction, predict
from deviceplugin.learning.runs import Group, History, Run

FORMAT = 1
MAX_BYTES = 64 << 20
NOTHING = Weight(0.0, 0.0, 0.0)


class ModelError(ValueError):
    """A file that is no model, or one of another version."""


class Model(Struct, frozen=True, kw_only=True):
    """`weights` by feature of what runs are alike, `mean` of how long they are expected to be, and
    `usual` lengths as ln seconds (a file without both is one of an earlier version, and predicts
    by likeness alone); `shift` in ln seconds is what the upper end is raised by; `window` is from
    when to when the runs were, and `judged` how the latest fifth of them was predicted by the
    others (`null`: there were too few), `last_day` how those of them that ended in the day before
    it was made. `latest` are the runs that predictions start from."""

    format: int = FORMAT
    name: str = "gpu-scheduler"
    version: str = ""
    made: float
    window: tuple[float, float]
    runs: int
    judged: Figures | None
    last_day: Figures | None = None
    weights: dict[str, float]
    mean: dict[str, Weight] = {}
    usual: list[float] = []
    shift: float
    latest: list[Run]

    def history(self) -> History:
        """The runs that predictions start from."""
        history = History()
        for run in sorted(self.latest, key=lambda run: run.end):
            history.add(run)
        return history

    def predict(self, history: History, group: Group, now: float) -> Prediction | None:
        """What a run of the group that begins now will be; None where nothing is known."""
        return predict(history, group, now, self.learned, self.shift)

    @property
    def learned(self) -> Learned:
        """The weights in the order of the features."""
        return Learned(
            votes=[self.weights.get(name, 0.0) for name in FEATURES],
            means=[self.mean.get(name, NOTHING) for name in MEANS],
            usual=self.usual,
        )


def encode(model: Model) -> bytes:
    """The file."""
    return msgspec.json.format(msgspec.json.encode(model), indent=1) + b"\n"


def decode(content: bytes) -> Model:
    """The model; raises ModelError."""
    try:
        model = msgspec.json.decode(content, type=Model)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(one_line(str(error))) from error
    if model.format != FORMAT:
        raise ModelError(f"format {model.format}, {FORMAT} is known here")
    unknown = sorted((model.weights.keys() - {*FEATURES}) | (model.mean.keys() - {*MEANS}))
    if unknown:
        named = one_line(", ".join(unknown), 200)
        raise ModelError(f"weights of {named}, which are no features here")
    return model
