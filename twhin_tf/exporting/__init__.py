"""A trained model -> vectors, plots, projector files, retrieval SavedModels.

vector_files, projector, plot    vectors in files, in TensorBoard, on a page
neighbours                       exact nearest neighbours, and recall
product_quantization             vectors in some bytes each
inverted_file                    approximate nearest neighbours
retrieval_model                  SavedModels: entities -> neighbours
export_folder                    all of these in one folder
"""
