//! A save that is killed leaves the old model or the new one, and one that meets a full disk the old one. `cargo xtask crash` kills many more.

use std::process::Command;

#[test]
fn killed_saves_leave_whole_models() {
    let out = Command::new(env!("CARGO_BIN_EXE_crash")).args(["--kills", "21"]).output().expect("runs");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    assert!(text.contains("56 passed, 0 failed"), "{text}");
}
