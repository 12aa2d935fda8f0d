"""What a value is, however it was stored.

In reading order; none imports one below it:

    text_bytes      texts of a column, looked at byte by byte
    guessed_kinds   whether texts are numbers
    arrow_kinds     every Arrow type: what it holds, its plain values
    iso_times       ISO 8601 texts <-> seconds and nanoseconds
    time_form       texts of times in a form that the user names
    time_values     times of any column, compared and ordered
    canonical_text  one text per value
    numeric_values  columns as float64 numbers, and as labels of 0 and 1
    comparisons     columns against typed values: == != < > <= >=
"""
