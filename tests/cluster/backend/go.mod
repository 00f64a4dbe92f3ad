module hutch.dev/backend

go 1.21
