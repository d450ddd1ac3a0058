"""What several verbs share: tables, progress, files for a reader, the settings of a verb that runs a flow."""
