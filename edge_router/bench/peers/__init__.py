"""The weak model beside other programs, each at its best: llama.cpp by its own clock, OpenVINO GenAI."""
