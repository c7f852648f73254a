"""stub"""


def inception_score(generated, real):
    raise NotImplementedError
