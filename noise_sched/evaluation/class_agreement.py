"""Stub."""


def class_agreement(g, r): ...
