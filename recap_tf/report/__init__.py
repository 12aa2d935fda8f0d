"""An evaluation as one page to look at; the work behind `recap_tf.evaluate --report`.

Read in this order; no module imports one below it:

    markup, drawing     HTML elements; charts as inline SVG
    row_sample          some rows of a stream, drawn at random
    report_rows         an evaluation's numbers as flat rows
    curves              labels and predictions -> the points of a task's curves
    feature_groups, importance      which features the model lives on
    training_logs, data_statistics  how it was trained, and on what
    *_section           each part of the page
    page_file           the page as a file
    report_writer       what is computed for the page, and its parts

How much of the data is looked at stands in `evaluation.report_settings`.
"""
