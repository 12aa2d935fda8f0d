"""Tables of impressions -> training records; the work behind `recap_tf.convert`.

expressions, label_expressions    what the flags say of rows and labels
impressions                       the input's rows, with side tables and history
feature_choice, fitting           first pass: columns, vocabularies, statistics
row_records, data_folder          second pass: records, and the files around them
passes                            both, one after the other
"""
