//! Why a head was refused. `httparse` says little, so the head is read again, slowly, and the first
//! fault in it gets its name. Only refused heads come here.

use super::grammar::{is_target_byte, is_token, is_token_byte, is_value_byte};
use super::head::{HeadLimits, MAX_FIELDS};
use crate::error::RequestError;

/// The first fault in a head that `httparse` refused.
#[cold]
pub(crate) fn diagnose(head: &[u8], limits: &HeadLimits) -> RequestError {
    match first_fault(head, limits) {
        Err(fault) => fault,
        Ok(()) => RequestError::IncompleteHead,
    }
}

fn first_fault(head: &[u8], limits: &HeadLimits) -> Result<(), RequestError> {
    let mut lines = head.split_inclusive(|&byte| byte == b'\n');
    let request_line = loop {
        match strip_line_end(lines.next().ok_or(RequestError::IncompleteHead)?)? {
            b"" => {}
            line => break line,
        }
    };
    check_request_line(request_line)?;
    for (count, line) in lines.enumerate() {
        let line = strip_line_end(line)?;
        if line.is_empty() {
            break;
        }
        check_field_line(line)?;
        if count >= limits.fields.min(MAX_FIELDS) {
            return Err(RequestError::TooManyFields);
        }
    }
    Ok(())
}

fn strip_line_end(line: &[u8]) -> Result<&[u8], RequestError> {
    let content = match line {
        [content @ .., b'\r', b'\n'] => content,
        [.., b'\n'] => return Err(RequestError::BareLf),
        _ => line,
    };
    if content.contains(&b'\r') {
        return Err(RequestError::BareCr);
    }
    Ok(content)
}

fn check_request_line(line: &[u8]) -> Result<(), RequestError> {
    let mut parts = line.splitn(3, |&byte| byte == b' ');
    if !is_token(parts.next().unwrap_or_default()) {
        return Err(RequestError::InvalidMethod);
    }
    let target = parts.next().unwrap_or_default();
    if target.is_empty() || !target.iter().copied().all(is_target_byte) {
        return Err(RequestError::InvalidTarget);
    }
    match parts.next().unwrap_or_default() {
        b"HTTP/1.0" | b"HTTP/1.1" => Ok(()),
        // HTTP/0.9 had no version to send.
        b"HTTP/0.9" => Err(RequestError::InvalidVersion),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(RequestError::UnsupportedVersion)
        }
        _ => Err(RequestError::InvalidVersion),
    }
}

fn check_field_line(line: &[u8]) -> Result<(), RequestError> {
    if let [b' ' | b'\t', ..] = line {
        return Err(RequestError::ObsFold);
    }
    let mut parts = line.splitn(2, |&byte| byte == b':');
    let name = parts.next().unwrap_or_default();
    let Some(value) = parts.next() else {
        return Err(RequestError::InvalidFieldName);
    };
    if let [rest @ .., b' ' | b'\t'] = name
        && rest.iter().all(|&byte| is_token_byte(byte) || matches!(byte, b' ' | b'\t'))
    {
        return Err(RequestError::WhitespaceBeforeColon);
    }
    if !is_token(name) {
        return Err(RequestError::InvalidFieldName);
    }
    if !value.iter().copied().all(is_value_byte) {
        return Err(RequestError::InvalidFieldValue);
    }
    Ok(())
}
