"""Tables larger than memory: partitions on disk and what of them is in memory.

partition_layout     which row is where; the settings
partition_order      in which order pairs of partitions are in memory together
partition_files      partitions on disk, one file per version
partition_buffer     the partitions in memory
partitioned_edges    training edges sorted by pair of partitions
disk_tables          node tables that are read from disk row by row
"""
