"""What a folder of records holds; the work behind `recap_tf.inspect`."""
