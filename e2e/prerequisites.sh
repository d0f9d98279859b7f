#!/usr/bin/env bash
# Installs what the dev cluster needs from Debian. Does nothing, quickly, when all of it is there.
set -euo pipefail

packages=(
	containerd runc containernetworking-plugins # run Pods
	iproute2 iptables ipset conntrack ethtool socat kmod procps # networking of Pods and Services
	buildah mmdebstrap # build images without a container engine and without a registry
	redis-server # the real Redis that tests start by themselves
	docker-registry # the real image registry that tests start by themselves
	git jq curl ca-certificates
)

fail() {
	printf 'prerequisites: %s\n' "$@" >&2
	exit 1
}

installed() { # prints the packages that are fully installed; dpkg-query fails when it knows one of them not at all
	{ dpkg-query --show --showformat '${db:Status-Abbrev} ${Package}\n' "${packages[@]}" 2>/dev/null || true; } | sed -n 's/^ii  *//p'
}

command -v dpkg-query >/dev/null || fail "this is no Debian: install the equivalents of" "  ${packages[*]}" \
	"by hand, or use a cluster of your own with CLUSTER=current"

missing=()
have=" $(installed | tr '\n' ' ') "
for package in "${packages[@]}"; do
	[[ $have == *" $package "* ]] || missing+=("$package")
done

if [ ${#missing[@]} -gt 0 ]; then
	[ "$(id -u)" -eq 0 ] || fail "missing: ${missing[*]}" "install them as root: sudo e2e/prerequisites.sh" \
		"or use a cluster of your own with CLUSTER=current"
	echo "installing ${missing[*]}"
	# Packages start their services once installed unless this policy says no. The cluster runs a containerd of its own,
	# and tests a Redis and a registry of their own, so those services would only be in the way.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e $policy ]; then
		printf '#!/bin/sh\nexit 101\n' >$policy
		chmod 0755 $policy
		trap 'rm -f $policy' EXIT
	fi
	export DEBIAN_FRONTEND=noninteractive
	install=(apt-get install --yes --no-install-recommends --quiet=2 "${missing[@]}")
	log=$(mktemp)
	# Package lists may be absent or too old: only then is fetching them worth the seconds.
	"${install[@]}" >"$log" 2>&1 || {
		apt-get update --quiet=2 >"$log" 2>&1 && "${install[@]}" >>"$log" 2>&1
	} || {
		tail -20 "$log" >&2
		fail "apt-get failed; its whole output is in $log"
	}
	rm -f "$log"
	# Not at the next boot either, where there is a systemd to ask.
	if [ -d /run/systemd/system ]; then
		for service in containerd redis-server docker-registry; do
			[[ " ${missing[*]} " != *" $service "* ]] || systemctl disable --quiet "$service" || true
		done
	fi
fi

command -v go >/dev/null || fail "Go 1.24 or later is needed to build Kubernetes: install it and put it on the PATH"
