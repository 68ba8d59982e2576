//! Native build tools: a build dependency of the runtime and of `selium-userland` compiles `flatc`, which is C++.

use anyhow::{Result, bail};

use super::apt;
use crate::cache::Cache;
use crate::proc;

/// One need: any of the programs will do, the package brings one of them.
const NEEDS: [(&[&str], &str); 3] = [
    (&["cmake"], "cmake"),
    (&["c++", "g++", "clang++"], "g++"),
    (&["make", "gmake"], "make"),
];

/// Makes sure that C++ can be built.
pub(crate) fn ensure(cache: &Cache) -> Result<()> {
    if missing().is_empty() {
        return Ok(());
    }
    let _lock = cache.lock("setup")?;
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    apt::install(
        "the runtime and the guests need native build tools",
        &packages,
    )?;
    let still = missing();
    if !still.is_empty() {
        bail!("still not in the path after their installation: {still:?}");
    }
    Ok(())
}

fn missing() -> Vec<&'static str> {
    packages_for(|program| proc::find(program).is_some())
}

fn packages_for(has: impl Fn(&str) -> bool) -> Vec<&'static str> {
    NEEDS
        .iter()
        .filter(|(programs, _)| !programs.iter().any(|program| has(program)))
        .map(|(_, package)| *package)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::packages_for;

    #[test]
    fn asks_only_for_what_is_missing() {
        assert!(packages_for(|_| true).is_empty());
        assert_eq!(
            packages_for(|program| program == "clang++"),
            ["cmake", "make"]
        );
        assert_eq!(packages_for(|_| false), ["cmake", "g++", "make"]);
    }
}
