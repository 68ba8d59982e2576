//! Ids: 64 bits, shown as 16 hexadecimal digits.

/// Makes an id type: a number in a coat of its own.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// The first eight of its digits: enough for people, and understood wherever it may stand, as long as no
            /// other id begins with them.
            #[must_use]
            pub fn short(self) -> String {
                format!("{:08x}", self.0 >> 32)
            }
        }

        impl std::fmt::Display for $name {
            /// 16 lower-case hexadecimal digits.
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&format!("{:016x}", self.0))
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::InvalidArgument;

            /// Reads a full id: 16 hexadecimal digits.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::id::parse(text).map(Self).ok_or(crate::InvalidArgument {
                    field: $what,
                    problem: "a full id has 16 hexadecimal digits".to_owned(),
                    limit: None,
                })
            }
        }

        impl From<u64> for $name {
            fn from(id: u64) -> Self {
                Self(id)
            }
        }
    };
}

pub(crate) use id;

pub(crate) fn parse(text: &str) -> Option<u64> {
    // A sign would be read, too.
    let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(text, 16).ok().filter(|_| digits)
}
