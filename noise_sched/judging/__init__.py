"""Judging images: from names on a command line to figures, a report and a picture.

folders        a folder of images, with labels
sources        names -> images: folders, .npz, samples, data sets
statistics     files of statistics in place of real images
model_images   a trained model's images, drawn when they are read
extraction     images -> features in files, on all devices, resumable
catalogue      the metrics by name, and the extractors that they need
judge          two sets of images -> a report
report         the table that is printed and the JSON that is kept
picture        samples beside their nearest real images, and histograms
in_training    what training judges
sampler_cells  the cells of a sweep of samplers, and what each costs
"""
