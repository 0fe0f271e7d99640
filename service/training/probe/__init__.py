"""From labelled questions to probes: reading cases, fitting, judging, promising."""

from tamis.service.training.probe.cases import Case as Case
from tamis.service.training.probe.cases import Report as Report
from tamis.service.training.probe.cases import Source as Source
from tamis.service.training.probe.cases import described as described
from tamis.service.training.probe.cases import distinct as distinct
from tamis.service.training.probe.cases import fold_of as fold_of
from tamis.service.training.probe.cases import look_key as look_key
from tamis.service.training.probe.cases import read_absent as read_absent
from tamis.service.training.probe.cases import read_cases as read_cases
from tamis.service.training.probe.cases import records_of as records_of
from tamis.service.training.probe.coverage import kept_promises as kept_promises
from tamis.service.training.probe.figures import evidence as evidence
from tamis.service.training.probe.figures import figures_of as figures_of
from tamis.service.training.probe.fitting import card_of as card_of
from tamis.service.training.probe.fitting import ordering as ordering
from tamis.service.training.probe.fitting import parted as parted
from tamis.service.training.probe.fitting import recalibrated as recalibrated
from tamis.service.training.probe.fitting import train as train
