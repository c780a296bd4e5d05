//! Reading a message.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Result, from_slice};

use crate::{Configuration, Configure, Request, Response};

/// What a [`Channel`](crate::Channel) carries.
pub trait Message: Serialize + DeserializeOwned {
    /// Reads what was written as JSON.
    ///
    /// # Errors
    /// It is none of ours.
    fn read(body: &[u8]) -> Result<Self> {
        from_slice(body)
    }
}

/// Which message it is. serde would put all others of a tagged enum's values into a tree before it reads them,
/// which for a configuration of a million routes takes longer than all else; so those are read by their own
/// types.
fn tag(body: &[u8]) -> Result<(Option<String>, Option<String>)> {
    #[derive(Deserialize)]
    struct Tag {
        request: Option<String>,
        response: Option<String>,
    }
    let Tag { request, response } = from_slice(body)?;
    Ok((request, response))
}

impl Message for Request {
    fn read(body: &[u8]) -> Result<Self> {
        match tag(body)?.0.as_deref() {
            Some("configure") => from_slice::<Configure>(body).map(Self::Configure),
            Some("apply") => from_slice::<Configuration>(body).map(Self::Apply),
            _ => from_slice(body),
        }
    }
}

impl Message for Response {
    fn read(body: &[u8]) -> Result<Self> {
        match tag(body)?.1.as_deref() {
            Some("config") => from_slice::<Configuration>(body).map(Self::Config),
            _ => from_slice(body),
        }
    }
}
