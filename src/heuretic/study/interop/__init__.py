"""Studies in the tools that teams already use: Optuna, MLflow, TensorBoard, pandas and polars."""
