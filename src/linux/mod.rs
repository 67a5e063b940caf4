//! `linux.*` of config.json: a file a property.
