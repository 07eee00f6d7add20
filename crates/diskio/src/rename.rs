use std::{io, path::Path};

/// Renames without ever replacing: `AlreadyExists` when the new name is taken.
#[cfg(target_os = "linux")]
pub(crate) fn no_replace(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::{
        fs::{CWD, RenameFlags, renameat_with},
        io::Errno,
    };
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // File systems without the flag: a hard link refuses a taken name just as well.
        Err(Errno::INVAL | Errno::NOSYS) => link_then_unlink(from, to),
        other => Ok(other?),
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn no_replace(from: &Path, to: &Path) -> io::Result<()> {
    link_then_unlink(from, to)
}

fn link_then_unlink(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::hard_link(from, to)?;
    // The caller is told that nothing happened. A kill before this line leaves two names, which `create_exclusive` knows.
    std::fs::remove_file(from).inspect_err(|_| drop(std::fs::remove_file(to)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn both_ways_refuse_a_taken_name() {
        type Rename = fn(&std::path::Path, &std::path::Path) -> std::io::Result<()>;
        for rename in [super::no_replace as Rename, super::link_then_unlink] {
            let dir = tempfile::tempdir().unwrap();
            let (a, b) = (dir.path().join("a"), dir.path().join("b"));
            std::fs::write(&a, "new").unwrap();
            std::fs::write(&b, "old").unwrap();
            assert_eq!(rename(&a, &b).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
            assert_eq!(std::fs::read(&b).unwrap(), b"old");
            std::fs::remove_file(&b).unwrap();
            rename(&a, &b).unwrap();
            assert_eq!(std::fs::read(&b).unwrap(), b"new");
            assert!(!a.exists());
        }
    }
}
