//! Single situations that a page of the protocol names.
