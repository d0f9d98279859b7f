#!/usr/bin/env bash
# Builds Stagecraft's images and installs the chart.
#
#   release.sh images    compile static binaries, build and push the images, remember their references
#   release.sh publish   compile them, build the images with docker or buildah, push them to IMAGE_REPOSITORY as IMAGE_TAG
#   release.sh install   helm upgrade --install with them, and wait until everything is ready
#   release.sh uninstall helm uninstall
#
# CLUSTER=dev (default) uses the cluster of `make up`. CLUSTER=current uses the current kube context with images from
# IMAGE_REPOSITORY (for example registry.example.com/stagecraft) and IMAGE_TAG, and REGISTRY_HOST as the chart's
# registry.host. HELM_OPTIONS are further options of helm.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
cache=${STAGECRAFT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stagecraft}
cluster=${CLUSTER:-dev}
namespace=${STAGECRAFT_NAMESPACE:-stagecraft-system}
references=$cache/image-references

say() { printf '%s\n' "$*" >&2; }
fail() { say "release.sh: $*"; exit 1; }

case $cluster in
dev)
	PATH=$cache/bin:$PATH
	export KUBECONFIG=$cache/cluster/kubeconfig
	;;
current) ;;
*) fail "CLUSTER is \"$cluster\", but it must be \"dev\" or \"current\"" ;;
esac

# Static, so that they run in an image made from nothing and in any image of an agent. The target is named because flags
# for static linking must not reach build scripts and procedural macros.
compile() {
	local target
	target=$(rustc -vV | sed -n 's/^host: //p')
	say "compiling the release binaries (minutes when nothing is cached)"
	(cd "$root" && RUSTFLAGS="-C target-feature=+crt-static" "$here/cargo.sh" build --locked --release --target "$target" --bins \
		-p stagecraft-operator -p stagecraft-gateway -p stagecraft-agent-runner >&2)
	binaries=${CARGO_TARGET_DIR:-$root/target}/$target/release
}

context() { # NAME BINARY...
	local directory=$cache/contexts/$1
	shift
	rm -rf "$directory"
	mkdir -p "$directory"
	local binary
	for binary in "$@"; do cp "$binaries/$binary" "$directory/$binary"; done
	printf '%s\n' "$directory"
}

toolchain_context() {
	"$root/toolchain/context.sh" "$cache/contexts/toolchain"
	printf '%s\n' "$cache/contexts/toolchain"
}

images() {
	if [ "$cluster" = current ]; then
		[ -n "${IMAGE_REPOSITORY:-}" ] || fail "with CLUSTER=current, set IMAGE_REPOSITORY to where the images are, for example IMAGE_REPOSITORY=registry.example.com/stagecraft"
		return
	fi
	compile
	local control_plane runner redis shell toolchain
	control_plane=$("$here/images.sh" build-and-push control-plane \
		"$(context control-plane stagecraft-operator stagecraft-gateway)" "$root/operator/Dockerfile")
	runner=$("$here/images.sh" build-and-push agent-runner \
		"$(context agent-runner stagecraft-runner stagecraft-launcher stagecraft-agent stagecraft-web)" "$root/agent-runner/Dockerfile")
	redis=$("$here/images.sh" build-and-push redis "$here/images/redis")
	shell=$("$here/images.sh" build-and-push shell "$here/images/shell")
	toolchain=$("$here/images.sh" build-and-push toolchain "$(toolchain_context)")
	printf 'CONTROL_PLANE=%s\nRUNNER=%s\nREDIS=%s\nSHELL_IMAGE=%s\nTOOLCHAIN=%s\n' \
		"$control_plane" "$runner" "$redis" "$shell" "$toolchain" >"$references.new"
	mv "$references.new" "$references"
}

# The version in the chart, which is the tag that the chart asks for by default.
version() { sed -n 's/^appVersion: *"\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' "$root/charts/stagecraft/Chart.yaml"; }

publish() {
	[ -n "${IMAGE_REPOSITORY:-}" ] || fail "set IMAGE_REPOSITORY to where the images go, for example IMAGE_REPOSITORY=registry.example.com/stagecraft"
	local tag=${IMAGE_TAG:-$(version)}
	compile
	"$here/images.sh" publish "$IMAGE_REPOSITORY/control-plane:$tag" \
		"$(context control-plane stagecraft-operator stagecraft-gateway)" "$root/operator/Dockerfile"
	"$here/images.sh" publish "$IMAGE_REPOSITORY/agent-runner:$tag" \
		"$(context agent-runner stagecraft-runner stagecraft-launcher stagecraft-agent stagecraft-web)" "$root/agent-runner/Dockerfile"
	"$here/images.sh" publish "$IMAGE_REPOSITORY/redis:$tag" "$here/images/redis"
	"$here/images.sh" publish "$IMAGE_REPOSITORY/shell:$tag" "$here/images/shell"
	"$here/images.sh" publish "$IMAGE_REPOSITORY/toolchain:$tag" "$(toolchain_context)"
}

image_values() { # VALUE REFERENCE
	printf -- '--set-string %s.image.repository=%s --set-string %s.image.tag=%s' "$1" "${2%:*}" "$1" "${2##*:}"
}

install() {
	local values=()
	if [ "$cluster" = dev ]; then
		[ -r "$references" ] || fail "there are no images yet: run \`make images\` first"
		# shellcheck source=/dev/null
		source "$references"
		# shellcheck disable=SC2046,SC2207
		values+=($(image_values controlPlane "$CONTROL_PLANE") $(image_values agentRunner "$RUNNER") $(image_values redis "$REDIS"))
		values+=($(image_values toolchain "${TOOLCHAIN:?is not among the references yet: run \`make images\` first}"))
		values+=(--set-string registry.host=registry.registry.svc.cluster.local:5000 --set registry.plainHttp=true)
	else
		[ -n "${IMAGE_REPOSITORY:-}" ] || fail "set IMAGE_REPOSITORY to where the images are"
		values+=(--set-string "controlPlane.image.repository=$IMAGE_REPOSITORY/control-plane")
		values+=(--set-string "agentRunner.image.repository=$IMAGE_REPOSITORY/agent-runner")
		values+=(--set-string "toolchain.image.repository=$IMAGE_REPOSITORY/toolchain")
		if [ -n "${IMAGE_TAG:-}" ]; then
			values+=(--set-string "controlPlane.image.tag=$IMAGE_TAG" --set-string "agentRunner.image.tag=$IMAGE_TAG")
			values+=(--set-string "toolchain.image.tag=$IMAGE_TAG")
		fi
		if [ -n "${REGISTRY_HOST:-}" ]; then values+=(--set-string "registry.host=$REGISTRY_HOST"); fi
	fi
	# shellcheck disable=SC2206
	values+=(${HELM_OPTIONS:-})
	command -v helm >/dev/null || fail "helm is not on the PATH: install Helm 3"
	say "installing the chart into namespace $namespace"
	helm upgrade --install stagecraft "$root/charts/stagecraft" --namespace "$namespace" --create-namespace \
		--set log.format=json --wait --timeout 3m "${values[@]}" >"$cache/helm.log" 2>&1 || {
		cat "$cache/helm.log" >&2
		kubectl --namespace "$namespace" get pods >&2 || true
		fail "the chart was not installed; \`kubectl -n $namespace describe pods\` says why a Pod is not ready"
	}
}

case ${1:-} in
images) images ;;
publish) publish ;;
install) install ;;
uninstall) helm uninstall stagecraft --namespace "$namespace" --wait --timeout 2m ;;
*) fail "usage: release.sh images|publish|install|uninstall" ;;
esac
