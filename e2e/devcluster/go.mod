module stagecraft.dev/e2e/devcluster

go 1.24
