// Package nrt trains language models to reason where no verifier can tell right
// from wrong, and shows why a chain of reasoning earned its reward.
//
// It holds no code: the tests beside this file are of the whole module.
// example_test.go and example_objective_test.go are programs that use it; deps_test.go
// states which package may import which, as text, and checks it; project_test.go
// checks that Makefile, Dockerfile and .ci/run agree.
//
// Start with docs/architecture.md, then trainer/reward.
package nrt
