module hutch.dev/testcluster/tools

go 1.26.0
