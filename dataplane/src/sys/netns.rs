//! Network namespaces.

use std::fs::File;
use std::io;
use std::path::Path;

/// Opens a namespace: a name from /run/netns or a path. What is mounted there must be a namespace:
/// the file that an unmounted one leaves behind is none.
///
/// # Errors
/// Nothing is there ([`io::ErrorKind::NotFound`]), it is no namespace
/// ([`io::ErrorKind::InvalidInput`]), it cannot be opened.
pub fn open(netns: &str) -> io::Result<File> {
    let file = File::open(Path::new("/run/netns").join(netns))?;
    match rustix::fs::fstatfs(&file)?.f_type == libc::NSFS_MAGIC {
        true => Ok(file),
        false => Err(io::ErrorKind::InvalidInput.into()),
    }
}
