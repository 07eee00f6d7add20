pub(crate) fn check(_: Option<&std::path::Path>) -> crate::Result { Ok(()) }
pub(crate) fn write_seeds(_: &std::path::Path) -> crate::Result { Ok(()) }
