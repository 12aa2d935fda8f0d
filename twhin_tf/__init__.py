"""Graph embeddings of users, posts and ads: TwHIN (arXiv:2202.05387).

The rooms in reading order; none imports one below it:

    graph       what a folder of edges holds, and batches of its edges
    conversion  edges with any ids -> a graph folder
    synthesis   graph folders that are made up
    model       edges -> scores -> loss
    partitions  tables larger than memory
    evaluation  ranks of held-out edges
    exporting   a trained model -> vectors, plots, retrieval SavedModels
    settings    what a config file says, as one object per command
    training    settings -> checkpoints

A verb beside them is a command, a leaf. Of `recap_tf`, only `core` is imported.
"""

# Says which Keras before TensorFlow is imported, and silences its start-up.
import recap_tf  # noqa: F401
