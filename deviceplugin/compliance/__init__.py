"""Reports for auditors: what a GPU node can evidence of the controls of a standard."""
