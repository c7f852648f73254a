"""Judging images: each metric is one function of images (and labels, and a reference) to a report.

    image_set        images and labels, read from an .npz or a folder of PNGs
    references       the real images to compare with, by name
    class_agreement  does a classifier of real digits see the class that was asked for?
    contrast         are images washed out to grey?
    nearest          is each image near the real ones (no noise), and no copy of one?
    kernel_distance  do the images as a whole follow the distribution of the real ones?
    report           the table that is printed and the JSON that is kept

NumPy and scikit-learn only: no accelerator is needed, and nothing here knows how images were made.
"""
