"""stub"""


def sliced_wasserstein(a, b):
    raise NotImplementedError
