"""The planner's pure rules, and archives made by hand."""
