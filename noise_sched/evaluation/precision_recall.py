"""stub"""


def precision_recall(generated, real):
    raise NotImplementedError


def density_coverage(generated, real):
    raise NotImplementedError
