// Package browsertest drives the built program in a real browser: what a reader
// sees and does, on the screen sizes and in the themes that the page promises.
//
// It runs the binary of `make build` (or $NRT) as a reader's machine would, and
// Chromium without a window. Without a browser its tests skip; `.ci/run`
// installs one.
package browsertest
