"""From labelled questions to probes: reading cases, fitting, judging, promising."""

from tamis.service.training.cases import Case as Case
from tamis.service.training.cases import Report as Report
from tamis.service.training.cases import Source as Source
from tamis.service.training.cases import described as described
from tamis.service.training.cases import distinct as distinct
from tamis.service.training.cases import fold_of as fold_of
from tamis.service.training.cases import look_key as look_key
from tamis.service.training.cases import read_absent as read_absent
from tamis.service.training.cases import read_cases as read_cases
from tamis.service.training.cases import records_of as records_of
from tamis.service.training.figures import evidence as evidence
from tamis.service.training.figures import figures_of as figures_of
from tamis.service.training.fitting import card_of as card_of
from tamis.service.training.fitting import ordering as ordering
from tamis.service.training.fitting import parted as parted
from tamis.service.training.fitting import recalibrated as recalibrated
from tamis.service.training.fitting import train as train
from tamis.service.training.promises import kept_promises as kept_promises
