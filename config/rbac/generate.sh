#!/bin/sh
# Renders the accounts, roles and the CSI driver from the chart:
#   config/rbac/generate.sh DIRECTORY
# HUTCH_HELM: the helm binary. Default: the one that `testcluster` has built, or `helm`.
set -eu
here=$(dirname "$0")
built=$(ls -d "${XDG_CACHE_HOME:-$HOME/.cache}"/hutch/helm-*/helm 2>/dev/null | tail -n 1)
helm=${HUTCH_HELM:-${built:-helm}}
for part in accounts driver rbac-controller rbac-facade rbac-node rbac-users; do
  rendered=$("$helm" template hutch "$here/../../charts/hutch" --namespace hutch-system \
    --values "$here/values.yaml" --show-only "templates/$part.yaml")
  {
    echo "# Generated from charts/hutch by \`make generate\`. Do not edit."
    # Helm does not manage these objects. Lines with its name would be wrong.
    printf '%s\n' "$rendered" | sed '1{/^---$/d;}; /^# Source: /d; /helm\.sh\/chart:/d; /managed-by: Helm$/d; s/ *$//'
  } > "$1/${part#rbac-}.yaml"
done
