pub fn run(_: &[String]) -> crate::workspace::Outcome { Ok(()) }
