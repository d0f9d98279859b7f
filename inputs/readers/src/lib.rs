//! One entry to what operator and gateway read of Redis, of Kubernetes and of the providers of models, for the fuzz target `readers`
//! (`fuzz/`). Whatever is handed in, an error or a value comes out; what breaks a promise panics here.

#![expect(clippy::panic, reason = "a broken promise ends the test that asked")]

mod objects;
mod provider;
mod redis_answers;

/// Reads the bytes as each thing that operator and gateway are told by others.
pub fn read_everything(bytes: &[u8]) {
    objects::read(bytes);
    provider::read(bytes);
    redis_answers::read(bytes);
}

#[cfg(test)]
mod tests {
    use stagecraft_inputs::property::{holds, within_a_moment};
    use stagecraft_inputs::values::bytes;

    use super::read_everything;

    #[test]
    fn any_bytes_are_read_as_anything() {
        holds(500, &bytes(), |bytes| read_everything(&bytes));
    }

    #[test]
    fn every_seed_of_the_fuzz_target_is_read_within_a_moment() {
        let seeds = stagecraft_inputs::seeds::all("readers");
        assert!(seeds.len() >= 5, "{}", seeds.len());
        for (name, bytes) in seeds {
            within_a_moment(|| read_everything(&bytes)).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        }
    }
}
