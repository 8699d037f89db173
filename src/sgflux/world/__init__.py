"""The bundled world: scenes, their pictures and judge, tiny-flux's training, and the demo."""
