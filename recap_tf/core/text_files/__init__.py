"""CSV and TSV files -> chunks of typed rows, without a guess that loses anything.

In reading order; none imports one below it:

    quote_scan    where quoted fields lie in a block of bytes
    text_dialect  delimiter, line ends, quotation marks, missing values
    text_blocks   a stream -> blocks of whole records
    text_columns  what a column of texts holds
    text_parser   a block -> texts, or the row that is wrong
    text_rows     a file -> chunks of rows
"""
