//! What control may do, and what it gives up.

use std::collections::HashSet;

use caps::{CapSet, Capability, errors::CapsError};

use crate::failure::{Code, Failure};

/// The capabilities that the dataplane needs. control keeps no others, and these only to hand them
/// on.
const NEEDED: [Capability; 2] = [Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW];

/// Fails unless this process may start a dataplane.
///
/// # Errors
/// It lacks the capabilities: says how to get them.
pub fn require() -> Result<(), Failure> {
    let have = caps::read(None, CapSet::Permitted).unwrap_or_default();
    if NEEDED.iter().all(|needed| have.contains(needed)) {
        return Ok(());
    }
    let program =
        std::env::current_exe().map_or("tapgate".into(), |path| path.display().to_string());
    Err(Failure::with(
        Code::Permission,
        format!(
            "CAP_NET_ADMIN and CAP_NET_RAW are needed to open devices and make TAPs\n\
             any of these gives them:\n  \
             sudo tapgate run FILE\n  \
             sudo setcap cap_net_admin,cap_net_raw+ep {program}\n  \
             a systemd unit with AmbientCapabilities, such as examples/tapgate.service"
        ),
    ))
}

/// Gives up everything but what the dataplane needs, for good; call it before the first thread
/// starts, because capabilities belong to threads.
///
/// control itself uses no capability (its effective set is empty). The dataplane, started later
/// on and any number of times, gets exactly the two as ambient capabilities.
///
/// # Errors
/// The kernel refuses.
pub fn reduce() -> Result<(), CapsError> {
    let needed = HashSet::from(NEEDED);
    // Needs CAP_SETPCAP. Without it (a unit, a file capability) the set cannot be reduced, but
    // no_new_privs closes the way back as well.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::all().difference(&needed) {
            // The kernel may not know the newest ones.
            let _ = caps::drop(None, CapSet::Bounding, *capability);
        }
    }
    caps::set(None, CapSet::Inheritable, &needed)?;
    caps::clear(None, CapSet::Effective)?;
    caps::set(None, CapSet::Permitted, &needed)?;
    caps::set(None, CapSet::Ambient, &needed)?;
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| CapsError::from(format!("no_new_privs: {error}")))
}
