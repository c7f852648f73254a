"""stub"""


def kid(generated, real):
    raise NotImplementedError
