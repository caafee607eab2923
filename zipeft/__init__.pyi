# The public names of zipeft, each where it is defined: type checkers read this, and zipeft/__init__.py does.
# ruff: noqa: I001
from zipeft import registry as registry
from zipeft.adapters.saved import load_adapter as load_adapter
from zipeft.api.backbone import (
    Backbone as Backbone,
    ImageBackbone as ImageBackbone,
    ImageTextBackbone as ImageTextBackbone,
    TextBackbone as TextBackbone,
    Weights as Weights,
)
from zipeft.api.language_backbone import LanguageBackbone as LanguageBackbone
from zipeft.api.data import Data as Data, Split as Split, Window as Window
from zipeft.api.method import HEAD_SPACE as HEAD_SPACE, Method as Method, require_float32 as require_float32
from zipeft.api.objective import Objective as Objective, TrivialAnswer as TrivialAnswer
from zipeft.api.search import Choice as Choice, Range as Range, Space as Space
from zipeft.api.settings import override as override
from zipeft.api.task import Average as Average, Preset as Preset, PublishedTable as PublishedTable, Task as Task
from zipeft.api.training_callback import TrainingCallback as TrainingCallback
from zipeft.errors import UserError as UserError, require as require
from zipeft.images.task import ImageTask as ImageTask
from zipeft.modules.zero_gated_prompt import ZeroGatedPrompt as ZeroGatedPrompt
from zipeft.api.published_sets import PublishedSetsTask as PublishedSetsTask
from zipeft.text.task import TextTask as TextTask
from zipeft.objectives.classification import Classification as Classification, TextClassification as TextClassification
from zipeft.objectives.extractive_qa import Spans as Spans
from zipeft.objectives.matching import Matching as Matching
from zipeft.objectives.regression import Regression as Regression
from zipeft.objectives.responses import Responses as Responses
from zipeft.objectives.sequence_labelling import SequenceLabelling as SequenceLabelling
from zipeft.splices import (
    attach as attach,
    conditioned as conditioned,
    detach as detach,
    gated_prompts as gated_prompts,
)
from zipeft.api.splice import HookSplice as HookSplice, Splice as Splice

__version__: str
