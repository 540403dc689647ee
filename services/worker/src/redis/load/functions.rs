//! Function libraries: they belong to no key, and to no database.

use bytes::Bytes;
use coffer_rdb::payload;
use coffer_rdb::resp::Reply;
use coffer_rdb::strings::printable;
use coffer_rdb::target::Feature;

use super::{Error, Loader, OnConflict};

impl Loader {
    /// Loads a function library, and treats one of its name as the options say; none when only a part of the keys is
    /// meant.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn function(&mut self, source: &[u8]) -> Result<(), Error> {
        if !self.options.filter.takes_functions() || self.options.dry_run {
            return Ok(());
        }
        let what = format!("the function library `{}`", printable(head(source), 80));
        if !self.target.can(Feature::Functions) {
            let loss = self.loss_of_functions(&what);
            self.tally.lost += 1;
            return self.lose(loss);
        }
        let command: &[&[u8]] = match self.options.on_conflict {
            OnConflict::Replace => &[b"FUNCTION", b"LOAD", b"REPLACE", source],
            OnConflict::Skip | OnConflict::Fail => &[b"FUNCTION", b"LOAD", source],
        };
        let skip = self.options.on_conflict == OnConflict::Skip;
        let mut skipped = false;
        for lane in self.lanes.all() {
            let address = lane.pipe.address.clone();
            match lane.pipe.ask(command).await? {
                Reply::Error(reply) if reply.starts_with(b"NOPERM") => {
                    return Err(Error::from_reply(&address, "FUNCTION LOAD", &reply));
                }
                Reply::Error(reply) if skip && is_there(&reply) => skipped = true,
                Reply::Error(reply) => {
                    let why = printable(&reply, 300);
                    return Err(Error::Unsupported { address, what, why });
                }
                _ => {}
            }
        }
        self.tally.skipped += u64::from(skipped);
        self.tally.functions += u64::from(!skipped);
        Ok(())
    }

    /// Loads what `FUNCTION DUMP` gave: one by one, since a server takes all of it or nothing.
    ///
    /// # Errors
    /// When the server refuses one.
    pub async fn functions(&mut self, payload: &Bytes) -> Result<(), Error> {
        for source in libraries(payload)? {
            self.function(&source).await?;
        }
        Ok(())
    }

    /// Looks whether function libraries of those names are there already.
    ///
    /// # Errors
    /// When one is, or a server does not say.
    pub async fn refuse_functions_in_the_way(&mut self, payload: &Bytes) -> Result<(), Error> {
        for source in libraries(payload)? {
            self.refuse_function_in_the_way(&source).await?;
        }
        Ok(())
    }

    /// The same for one.
    ///
    /// # Errors
    /// As there.
    pub async fn refuse_function_in_the_way(&mut self, source: &[u8]) -> Result<(), Error> {
        // Without a name in its place it is no library, which the server says when it is loaded.
        let Some(name) = name(source) else { return Ok(()) };
        if !self.options.filter.takes_functions() || !self.target.can(Feature::Functions) {
            return Ok(());
        }
        for lane in self.lanes.all() {
            match lane.pipe.ask(&[b"FUNCTION", b"LIST", b"LIBRARYNAME", name]).await? {
                Reply::Error(reply) => {
                    return Err(Error::from_reply(&lane.pipe.address, "FUNCTION LIST", &reply));
                }
                Reply::Array(Some(list)) if list.is_empty() => {}
                _ => return Err(Error::LibraryInTheWay { library: printable(name, 80) }),
            }
        }
        Ok(())
    }
}

fn libraries(payload: &Bytes) -> Result<Vec<Bytes>, Error> {
    let path = "the dump of the function libraries".to_owned();
    payload::libraries(payload.clone()).map_err(|source| Error::Rdb { path, source })
}

/// `#!lua name=mylib`
fn head(source: &[u8]) -> &[u8] {
    source.split(|byte| *byte == b'\n').next().unwrap_or_default()
}

fn name(source: &[u8]) -> Option<&[u8]> {
    let name = head(source)
        .split(u8::is_ascii_whitespace)
        .find_map(|word| word.strip_prefix(b"name="))?
        .trim_ascii();
    let quoted = [b"\"", b"'"].iter().find_map(|q| name.strip_prefix(*q)?.strip_suffix(*q));
    Some(quoted.unwrap_or(name))
}

/// `ERR Library 'mylib' already exists`; a function of that name in another library is something else.
fn is_there(reply: &[u8]) -> bool {
    reply.starts_with(b"ERR Library") && reply.ends_with(b"already exists")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_has_its_name_in_its_first_line() {
        for (source, want) in [
            (&b"#!lua name=mylib\nreturn 'name=other'"[..], Some(&b"mylib"[..])),
            (b"#!lua  engine=x name=\"my_lib\"\r\n", Some(b"my_lib")),
            (b"#!lua name='l'", Some(b"l")),
            (b"return 1\nname=mylib", None),
        ] {
            assert_eq!(name(source), want);
        }
    }
}
