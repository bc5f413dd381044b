# Every target is something a person could type; `make help` lists them.
# Go, git and make are all that `make run` and `make test` need: Go fetches the
# modules, and a check whose tool is missing says that it was skipped.

GO      ?= go
VERSION ?= $(shell git describe --always --dirty --tags 2>/dev/null || echo unknown)
OUT     ?= bin/nrt

# What is built is one static file: no C compiler is asked for.
export CGO_ENABLED ?= 0
BUILD = $(GO) build -ldflags '-s -w -X main.version=$(VERSION)'

# No paths of this machine in what is built; checks have it too, so that they use
# what was compiled for the build.
GOFLAGS := $(shell $(GO) env GOFLAGS)
export GOFLAGS := $(strip $(GOFLAGS) $(filter-out $(GOFLAGS),-trimpath -buildvcs=false))

# The packages that run in a browser, as deps_test.go marks them, and those in
# which goroutines meet.
WASM_PACKAGES = ./trainer/reward ./trainer/objective ./backend/token ./backend/device ./web/wire ./web/heat ./web/chart ./web/view ./wasm
RACE_PACKAGES = ./backend/cpu ./backend/engine ./trainer/data ./trainer/run ./backend/server ./backend/cmd/nrt

# A test that waits in vain says so itself, after minutes; this is for one that hangs.
# What is tested is vetted whole, by a check of its own or a line earlier.
TEST = $(GO) test -vet=off -timeout 40m

# With the tag cuda a C compiler is asked for, and nothing of NVIDIA's: the header
# is our own, the driver is found when the program runs.
CUDA = CGO_ENABLED=1 CGO_CFLAGS='-O2 -I$(CURDIR)/backend/cuda/internal/driver/include'

.PHONY: help run wasm test build cuda deps generate bench docker docker-cuda gpu-check world-models check-format check-vet check-platforms check-tests check-race check-wasm check-arm64 check-cuda check-generated check-run check-client check-browser browser-tools

help: ## list the targets
	@grep -E '^[a-z0-9-]+:.* ## ' Makefile | sed -e 's/:.* ## /\t/' | expand -t 18

ADDR ?= 127.0.0.1:8080

run: build ## build bin/nrt and serve the page; prints its address (ADDR=host:port)
	$(OUT) serve --addr $(ADDR)

build: wasm ## build bin/nrt, one static binary with the page's client inside
	$(BUILD) -o $(OUT) ./backend/cmd/nrt

cuda: OUT = bin/nrt-cuda
cuda: wasm ## build bin/nrt-cuda, which also computes on NVIDIA cards (needs a C compiler)
	$(CUDA) $(BUILD) -tags cuda -o $(OUT) ./backend/cmd/nrt

# The client is compiled for size, stripped and compressed; unchanged bytes are
# not compressed again. Inlining makes it a tenth larger on the wire, so only the
# packages that work in every frame have it.
CLIENT = GOOS=js GOARCH=wasm
INLINED = nrt/... runtime internal/runtime/... syscall/js strings strconv bytes slices math math/bits unicode/utf8
CLIENT_FLAGS = -gcflags=all=-l $(INLINED:%=-gcflags=%=)
wasm: ## build the page's WebAssembly client into web/static
	@mkdir -p .cache
	$(CLIENT) $(GO) build $(CLIENT_FLAGS) -ldflags '-s -w -buildid=' -o .cache/app.wasm ./wasm
	@cmp -s "$$($(GO) env GOROOT)/lib/wasm/wasm_exec.js" web/static/wasm_exec.js || cp -f "$$($(GO) env GOROOT)/lib/wasm/wasm_exec.js" web/static/wasm_exec.js
	@$(GO) run ./web/pack .cache/app.wasm web/static

# First what writes files, alone. Then two at a time, as many wait or use one core; each
# says what it has to say when it is done. The tests in the browser, which wait for
# frames, come first: so they must not wait for what is made, which is there by then.
MADE = build browser-tools
ASIDE = renice -n 10 -p $$$$ >/dev/null
PAIRS = --no-print-directory --jobs=2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=line)
test: deps check-format check-generated ## run every check below
	@$(MAKE) build browser-tools check-vet check-platforms $(PAIRS)
	@$(MAKE) check-browser check-cuda check-arm64 check-tests check-race check-wasm check-run check-client $(PAIRS) MADE=

check-format: ## gofmt has nothing to change
	@echo '== format'
	@bad=$$("$$($(GO) env GOROOT)/bin/gofmt" -l .); test -z "$$bad" || { echo "gofmt -w these files:"; echo "$$bad"; exit 1; }

check-vet: ## go vet finds nothing
	@echo '== vet'
	@$(GO) vet ./...

# Vetting checks the types of all and compiles what is imported; what is left is to link.
# What no other check runs is not optimised, which saves a third of its time.
LINKS = $(BUILD) -o /dev/null ./backend/cmd/nrt
check-platforms: ## vet and build for Windows, macOS, Linux on arm64 and the browser
	@echo '== windows/amd64'
	@export GOOS=windows GOARCH=amd64 GOFLAGS="$$GOFLAGS '-gcflags=all=-N -l'"; $(GO) vet ./... && $(LINKS)
	@echo '== darwin/arm64'
	@export GOOS=darwin GOARCH=arm64 GOFLAGS="$$GOFLAGS '-gcflags=all=-N -l'"; $(GO) vet ./... && $(LINKS)
	@echo '== linux/arm64'
	@export GOOS=linux GOARCH=arm64; $(GO) vet ./... && $(LINKS)
	@echo '== js/wasm'
	@$(CLIENT) $(GO) vet $(CLIENT_FLAGS) $(WASM_PACKAGES)

check-tests: ## all tests
	@echo '== tests'
	@$(TEST) ./...

check-race: ## the race detector on packages with goroutines (needs a C compiler)
	@echo '== race'
	@if command -v $$($(GO) env CC) >/dev/null; then CGO_ENABLED=1 $(TEST) -race -short $(RACE_PACKAGES); else echo 'skipped: needs a C compiler'; fi

check-wasm: ## the tests of the packages that run in a browser, in WebAssembly (needs node)
	@echo '== wasm'
	@if command -v node >/dev/null; then $(CLIENT) $(TEST) $(CLIENT_FLAGS) -exec="$$($(GO) env GOROOT)/lib/wasm/go_js_wasm_exec" $(WASM_PACKAGES); else echo 'skipped: needs node'; fi

# Of the kernel tables only NEON's: the others are the same Go as everywhere.
check-arm64: ## kernels and model on an emulated arm64 (needs qemu-user)
	@echo '== arm64'
	@$(ASIDE); if command -v qemu-aarch64 >/dev/null; then export GOOS=linux GOARCH=arm64 CGO_ENABLED=0; $(TEST) -exec=qemu-aarch64 -run='/neon$$' ./backend/cpu && $(TEST) -exec=qemu-aarch64 ./backend/llama; else echo 'skipped: needs qemu-user'; fi

check-cuda: ## build with the tag cuda, kernels on an emulated card (needs gcc and g++)
	@echo '== cuda'
	@$(ASIDE); if command -v gcc >/dev/null && command -v g++ >/dev/null; then $(MAKE) --no-print-directory cuda OUT=.cache/nrt-cuda && .cache/nrt-cuda devices && $(CUDA) $(GO) vet -tags cuda ./backend/cuda/... && NRT_NEED_EMULATOR=1 $(CUDA) $(TEST) -tags cuda ./backend/cuda/...; else echo 'skipped: needs a C and a C++ compiler'; fi

check-generated: generate ## generated code is what its generators write
	@echo '== generated'
	@git grep -lE '^// Code generated .* DO NOT EDIT\.$$' | xargs -r git diff --exit-code --

check-run: $(filter build,$(MADE)) ## the binary that was built explains a sample question
	@echo '== run'
	@$(OUT) version && $(OUT) explain --k 2

check-client: $(filter build,$(MADE)) ## ask /v1 with OpenAI's own client (needs its module)
	@echo '== client'
	@cd backend/server/clienttest && if $(GO) mod download 2>/dev/null; then $(GO) vet . && NRT=$(abspath $(OUT)) $(TEST) -count=1 .; else echo 'skipped: the modules of the client cannot be fetched'; fi

check-browser: $(MADE) ## drive the page in Chromium (needs chromium)
	@echo '== browser'
	@if command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null; then cd web/browsertest && $(GO) vet . && $(TEST) -count=1 -v .; else echo 'skipped: needs chromium'; fi

# The rules of accessibility are fetched for the tests alone.
browser-tools: ## fetch axe-core for check-browser (needs npm)
	@if test -e .cache/node_modules/axe-core/axe.min.js; then :; elif command -v npm >/dev/null; then npm install --loglevel=error --prefix .cache --no-save --no-package-lock --no-audit --no-fund --ignore-scripts axe-core@4.14.1; else echo 'axe-core: needs npm'; fi

generate: ## write generated code again
	$(GO) generate ./...

deps: ## download the modules
	$(GO) mod download

BENCH ?= .
bench: ## time the kernels, six times each, for benchstat (BENCH=MatMul for some)
	@$(GO) test ./backend/cpu -run '^$$' -bench '$(BENCH)' -benchtime 100ms -count 6 -timeout 20m

# One folder for a machine with a card: programs without symbols, scripts, no Go.
GPU_CHECK = .cache/gpu-check
gpu-check: ## make .cache/gpu-check, to be copied to a machine with a GPU and run there
	@rm -rf $(GPU_CHECK) && mkdir -p $(GPU_CHECK)
	@$(MAKE) --no-print-directory cuda OUT=$(GPU_CHECK)/nrt-cuda
	$(CUDA) $(GO) test -c -trimpath -ldflags '-s -w' -tags cuda -o $(GPU_CHECK)/cuda.test ./backend/cuda
	@cp backend/cuda/gpucheck/*.sh backend/cuda/gpucheck/*.py LICENSE $(GPU_CHECK)/
	@du -sm $(GPU_CHECK) | awk '{ print $$2 " is ready, " $$1 " MB: copy it, then run ./gpu-check.sh in it"; if ($$1 > 60) { print "want at most 60 MB"; exit 1 } }'

docker: ## build the container image nrt
	docker build --build-arg VERSION=$(VERSION) -t nrt .

docker-cuda: ## build the container image nrt:cuda, for NVIDIA's container runtime
	docker build --build-arg VERSION=$(VERSION) --target cuda -t nrt:cuda .

world-models: build ## pretrain and train the embedded models again (10 to 20 minutes)
	$(OUT) world --models trainer/world/models
