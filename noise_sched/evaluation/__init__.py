"""Judging images: extractors make features of images, and a metric is one function of two sets of features.

    images, image_set, npz      images that are read in pieces, in memory or in an .npz
    features, metric            what extractors make, and what a metric is
    inception, dinov2, resize   published networks; their weights are read elsewhere
    classifier                  a small network that is trained on the real images
    laplacian_patches, spectrum, tones, pixels      features without any network
    frechet, kid, inception_score, precision_recall, class_agreement, sliced_wasserstein, nearest,
    kernel_distance             the metrics; those of spectrum and tones stand with their features

Extractors are JAX, pure and jitted by their caller; metrics are NumPy in float64. Nothing here knows how
images were made, where they lie, or what runs it.
"""
