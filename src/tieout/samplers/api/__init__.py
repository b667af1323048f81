"""Text from models behind OpenAI-compatible APIs: every call is on record before it is sent, every reply before use."""

from .ledger import Budget as Budget
from .ledger import BudgetError as BudgetError
from .ledger import Ledger as Ledger
from .sampler import APISampler as APISampler
from .sampler import IncompleteError as IncompleteError
