//! What is reported or tried once in the life of a token.

/// What was reported or tried, and is not again.
#[derive(Debug, Default)]
pub(super) struct Once {
    pub(super) output_tried: bool,
    pub(super) input_unreadable: bool,
    pub(super) output_changed: bool,
}

/// Notes that this was reported or tried. True the first time.
pub(super) const fn mark_reported(done: &mut bool) -> bool {
    !std::mem::replace(done, true)
}
