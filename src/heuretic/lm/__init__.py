"""Language models behind one interface, and strategies that get answers out of them. Needs `pip install 'heuretic[lm]'`."""

from heuretic.lm.answer import Answer, Sample, Step, Strategy
from heuretic.lm.answering import answer_all, answers
from heuretic.lm.budget import Budget, BudgetSpent, Price
from heuretic.lm.cache import ReplyCache
from heuretic.lm.model import LanguageModel, ModelError, model
from heuretic.lm.opro import OPRO, optimize_prompt
from heuretic.lm.question_sets import QuestionSet, question_set, questions
from heuretic.lm.questions import Question, read_questions
from heuretic.lm.replies import Outcome, Reply, Usage
from heuretic.lm.sampling import Sampling
from heuretic.lm.solver import solver
from heuretic.lm.tuning import Accuracy

__all__ = [
    "OPRO", "Accuracy", "Answer", "Budget", "BudgetSpent", "LanguageModel", "ModelError", "Outcome", "Price", "Question", "QuestionSet",
    "Reply", "ReplyCache", "Sample", "Sampling", "Step", "Strategy", "Usage", "answer_all", "answers", "model", "optimize_prompt",
    "question_set", "questions", "read_questions", "solver",
]  # fmt: skip
