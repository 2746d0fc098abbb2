# Short names for the commands that README.md, docs/ and .ci/run have; nothing is said here that is not said there.
# What mounts filesystems needs root: sudo make test.

GO ?= go
ROOT ?= /

.PHONY: all build install packages test long scenarios wrong lint fuzz mutants sweep demo bench ci clean

all: build

# The seven programs, static, in bin/.
build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/reflinksr ./cmd/reflinksr-metrics ./cmd/srnbd ./cmd/onereflink ./cmd/reflinksr-smapiv1 ./cmd/srctl ./cmd/srtest ./cmd/srcrash ./cmd/srlab

# The plugin directories below ROOT (docs/install.md).
install: build
	bin/reflinksr install --root $(ROOT)

# The rpms and the debs, in bin/ (docs/install.md). RELEASE tells two packages of one version apart.
RELEASE ?= 1
packages:
	$(GO) run ./cmd/packaging -out bin -release $(RELEASE)

test:
	$(GO) test ./...

# Everything that test leaves out because it takes long (README.md).
long:
	.ci/run long

# make scenarios RUN=snapshot: those whose names match; RUN=^snapshot/ those of a folder.
scenarios: plugins
	bin/srtest run -own -run '$(RUN)' -volume bin/plugins/volume/org.xen.xapi.storage.reflink -datapath bin/plugins/datapath

# Plugins that are wrong on purpose (docs/testing.md).
wrong:
	$(GO) test -timeout 60m -run '^TestWrongPlugins$$' ./cmd/srtest

# gofmt, vet, staticcheck and gosec, as .ci/run begins.
lint:
	.ci/run lint

# docs/reliability.md has these three. RUN picks some, PART=1/8 a part.
fuzz: build
	bin/srcrash fuzz -for 1m -run '$(RUN)'

mutants: build
	bin/srcrash mutants -run '$(RUN)'

PART ?= 1/144
sweep: plugins
	bin/srcrash sweep -part $(PART) -run '$(RUN)' -volume bin/plugins/volume/org.xen.xapi.storage.reflink -datapath bin/plugins/datapath/loop+blkback

plugins: build
	mkdir -p bin/plugins
	bin/reflinksr install --root bin/plugins
.PHONY: plugins

demo:
	$(GO) run ./cmd/srctl demo

bench:
	$(GO) test -run xxx -bench . ./cmd/reflinksr

# Everything (as root).
ci:
	.ci/run

clean:
	rm -rf bin
